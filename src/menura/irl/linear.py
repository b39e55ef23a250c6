"""Sparse linear systems of policies: I − γ P_π, and its transpose."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.sparse.linalg import LinearOperator, MatrixRankWarning, bicgstab, gmres, splu
from threadpoolctl import ThreadpoolController

from menura.irl.choices import Choices

DIRECT_SIZE = 300
"""Up to so many states a sparse LU is always cheap; beyond, a Krylov method is tried first."""

MANY_COLUMNS, MANY_STATES = 8, 20_000
"""For so many right-hand sides at once a factorization pays, unless there are too many states."""

_LINEAR_OPERATOR: Any = LinearOperator  # its arguments are those of __new__, which type checkers overlook

COLUMNS = 8
"""Right-hand sides solved at a time; wider blocks are no faster."""


def single_threaded_blas() -> Any:
    """A context in which BLAS starts no threads of its own: on the small blocks of sparse factors they cost more than
    they give, and they fight with ours."""
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


class Factorization(NamedTuple):
    """A sparse LU of a matrix whose rows and columns were put in an order that keeps its factors sparse."""

    lu: Any
    order: Int[np.ndarray, " states"] | None
    """Where the matrix was given in this order of the states; ``None`` where SuperLU chose it."""

    @property
    def best_order(self) -> Int[np.ndarray, " states"]:
        """The order, for the next matrix with entries in the same places: finding it takes a third of the time."""
        return np.argsort(self.lu.perm_c) if self.order is None else self.order

    def solve(self, right: np.ndarray, kind: str) -> np.ndarray:
        """The solution for a right-hand side or several columns of them; ``kind`` is "N", or "T" to transpose."""
        if self.order is None:
            return self.lu.solve(right, kind)
        found = np.empty_like(right)
        found[self.order] = self.lu.solve(right[self.order], kind)
        return found


def factorize(matrix: sp.csc_array, order: Int[np.ndarray, " states"] | None = None) -> Factorization | None:
    """A sparse LU; ``None`` where the matrix is singular. With ``order``, of a matrix that is in that order already.

    Pivots stay on the diagonal: I minus a matrix of weights is then eliminated without any cancellation, and every
    component of a solution is accurate to its own size, however small. Row exchanges would lose the small ones.
    """
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", MatrixRankWarning)
            lu = splu(
                sp.csc_matrix(matrix),
                permc_spec="MMD_AT_PLUS_A" if order is None else "NATURAL",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )
    except (RuntimeError, MatrixRankWarning):
        return None
    return Factorization(lu, order)


def solve_columns(lu: Factorization, right: np.ndarray, *, transposed: bool = False) -> np.ndarray:
    """All columns of a right-hand side, some at a time."""
    kind = "T" if transposed else "N"
    if right.ndim == 1 or right.shape[1] <= COLUMNS:
        return lu.solve(right, kind)
    out = np.empty_like(right, order="F")
    for first in range(0, right.shape[1], COLUMNS):
        out[:, first : first + COLUMNS] = lu.solve(np.asfortranarray(right[:, first : first + COLUMNS]), kind)
    return out


class PolicySystem:
    """I − γ P_π of a policy over choices: a sparse LU for few states, BiCGSTAB or GMRES for many, LU if these fail."""

    def __init__(self, choices: Choices, policy: Float[np.ndarray, " choices"], discount: float):
        size = choices.num_states
        self.is_iterative = size > DIRECT_SIZE
        if choices.is_deterministic:
            data, indices, counts = policy, choices.outcome, np.bincount(choices.state, minlength=size)
        else:
            matrix = choices.matrix
            each = np.diff(matrix.indptr)
            data = matrix.data * np.repeat(policy, each)
            indices = matrix.indices
            counts = np.zeros(size, np.int64)
            counts[choices.acting] = np.add.reduceat(each, choices.first) if choices.num_choices else 0
        pointers = np.concatenate([[0], np.cumsum(counts)]).astype(indices.dtype)
        self._policy_matrix = sp.csr_array((data, indices, pointers), (size, size))
        self._discount, self._size = discount, size
        self._lu: Factorization | None = None

    def _factor(self) -> Factorization:
        if self._lu is None:
            matrix = sp.eye_array(self._size, format="csc") - self._discount * self._policy_matrix.tocsc()
            self._lu = factorize(matrix)
            if self._lu is None:
                raise ArithmeticError("I − γ P is singular.")
        return self._lu

    def solve(self, right: np.ndarray, *, tolerance: float = 0.0) -> np.ndarray:
        """(I − γ P_π)⁻¹ right, one column or several; to a relative residual where that is enough."""
        return self._run(right, tolerance, transposed=False)

    def solve_transposed(self, right: np.ndarray) -> np.ndarray:
        """(I − γ P_πᵀ)⁻¹ right."""
        return self._run(right, 0.0, transposed=True)

    def _run(self, right: np.ndarray, tolerance: float, *, transposed: bool) -> np.ndarray:
        many = right.ndim > 1 and right.shape[1] >= MANY_COLUMNS and self._size <= MANY_STATES
        if self.is_iterative and self._lu is None and not many:
            if right.ndim == 1:
                found = self._krylov(right, tolerance or 1e-13, transposed)
                if found is not None:
                    return found
            else:
                columns = [self._krylov(column, tolerance or 1e-13, transposed) for column in right.T]
                if all(column is not None for column in columns):
                    return np.stack([c for c in columns if c is not None], axis=1)
            self.is_iterative = False
        return solve_columns(self._factor(), right, transposed=transposed)

    def _krylov(self, right: np.ndarray, tolerance: float, transposed: bool) -> np.ndarray | None:
        norm = float(np.linalg.norm(right))
        if norm == 0:
            return np.zeros_like(right)
        matrix = self._policy_matrix.T if transposed else self._policy_matrix
        product = lambda x: x - self._discount * (matrix @ x)  # noqa: E731
        operator = _LINEAR_OPERATOR((self._size, self._size), matvec=product, dtype=np.float64)
        # The residual that a recursion reports drifts from the true one, so that is computed and refined.
        found = np.zeros_like(right)
        residual = right
        for _ in range(4):
            wanted = max(tolerance * norm / float(np.linalg.norm(residual)), 1e-9)
            more, _ = bicgstab(operator, residual, rtol=wanted, atol=0.0, maxiter=250)
            if not np.isfinite(more).all():
                more, _ = gmres(operator, residual, rtol=wanted, atol=0.0, restart=40, maxiter=5)
            after = residual - product(more)
            before, now = float(np.linalg.norm(residual)), float(np.linalg.norm(after))
            if now < before:
                found, residual = found + more, after
            if now <= tolerance * norm:
                return found
            if now > 0.5 * before:
                break
        reached = float(np.linalg.norm(residual)) / norm
        return found if reached <= max(tolerance, 1e-11) else None
