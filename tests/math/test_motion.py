"""Rotations, retargeting and gait measures against numbers by hand, and a person's walk kept within bounds."""

import json

import numpy as np
import pytest

from menura.core import RequestError
from menura.environments.motion import rotations
from menura.environments.motion.clips import joint_positions, read_clip
from menura.environments.motion.gait import dtw_distance, gait_distance, gait_of
from menura.environments.motion.humanoid import JOINTS, SOLE, layout_of, load_model
from menura.environments.motion.observation import has_fallen, observation, state_of, task_reward
from menura.environments.motion.retarget import (
    LEG_LENGTH,
    abdomen_angles,
    end_positions,
    hip_angles,
    joint_angles,
    retarget,
    shoulder_angles,
)
from tests.walking_clip import FPS, FRAMES, SPEED, frame, write_walk

X, Y, Z = np.eye(3)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return read_clip(write_walk(tmp_path_factory.mktemp("clip") / "walk.txt"))


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("mujoco")
    return load_model()


@pytest.fixture(scope="module")
def motion(clip, model):
    return retarget(clip, model)


def turn(axis, angle):
    return rotations.about(axis, np.array(angle))


def test_a_quarter_turn_about_z_takes_x_to_y():
    q = turn(Z, np.pi / 2)
    np.testing.assert_allclose(q, [np.sqrt(0.5), 0, 0, np.sqrt(0.5)])
    np.testing.assert_allclose(rotations.rotate(q, X), Y, atol=1e-12)
    np.testing.assert_allclose(rotations.matrix(q) @ X, Y, atol=1e-12)
    np.testing.assert_allclose(rotations.heading_angle(q[None]), np.pi / 2)


def test_of_a_product_the_right_factor_turns_first():
    both = rotations.multiply(turn(Z, np.pi / 2), turn(X, np.pi / 2))
    np.testing.assert_allclose(rotations.rotate(both, Y), Z, atol=1e-12)
    np.testing.assert_allclose(rotations.rotate(rotations.conjugate(both), Z), Y, atol=1e-12)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)])
def test_euler_angles_are_those_that_a_rotation_was_made_of(order, rng):
    angles = rng.uniform(-1.4, 1.4, (20, 3))
    first, second, third = (rotations.about(np.eye(3)[axis], angles[:, i]) for i, axis in enumerate(order))
    q = rotations.multiply(rotations.multiply(first, second), third)
    np.testing.assert_allclose(rotations.euler_angles(q, order), angles, atol=1e-9)


def test_the_twist_is_what_is_left_of_a_rotation_without_its_swing():
    swing, twist = turn(X, 0.7), turn(Z, -1.1)
    np.testing.assert_allclose(rotations.twist_angle(rotations.multiply(swing, twist)[None], Z), -1.1)
    np.testing.assert_allclose(rotations.rotation_angle(twist[None]), 1.1)


def test_a_quaternion_comes_back_from_its_matrix(rng):
    q = rotations.normalized(rng.normal(size=(50, 4)))
    back = rotations.from_matrix(rotations.matrix(q))
    np.testing.assert_allclose(back, q * np.sign(q[:, :1]), atol=1e-9)
    np.testing.assert_allclose(rotations.from_matrix(np.diag([1.0, -1.0, -1.0])), [0, 1, 0, 0], atol=1e-12)


def test_a_clip_is_read_into_axes_with_z_up(clip):
    assert clip.loops
    np.testing.assert_allclose([clip.fps, clip.speed, clip.seconds], [FPS, SPEED, FRAMES / FPS])
    at = joint_positions(clip)
    # The right hip is to the right, which is −y, and the head above.
    assert at["right_hip"][0, 1] < -0.08
    assert at["neck"][0, 2] > at["chest"][0, 2] > at["right_hip"][0, 2] > at["right_ankle"][0, 2]


def test_a_leg_swung_forward_and_bent_is_that_of_the_humanoid(clip):
    angles = joint_angles(clip)
    phase = 2 * np.pi * np.arange(FRAMES + 1) / FRAMES
    # Its hip turns about the axis to the left, so that forward is negative.
    np.testing.assert_allclose(angles["right_hip_y"], -0.1 - 0.4 * np.sin(phase), atol=1e-9)
    np.testing.assert_allclose(angles["left_knee"], -0.15 - 0.6 * np.maximum(0, np.cos(phase + np.pi)), atol=1e-9)
    # The torso is turned by −0.15 sin φ of the pelvis, so that the pelvis is turned the other way in the torso.
    np.testing.assert_allclose(angles["abdomen_z"], 0.15 * np.sin(phase), atol=1e-9)
    np.testing.assert_allclose(angles["right_elbow"], 0.6 - np.arccos(-1 / 3), atol=1e-9)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_shoulder_points_the_upper_arm_where_it_is_asked_to(side, model):
    import mujoco

    mirror = np.array([1.0, -1.0 if side == "right" else 1.0, 1.0])
    direction = rotations.rotate(turn(Y, 0.3), np.array([0.2, 0.3, -1.0]) * mirror)
    angles = shoulder_angles((direction / np.linalg.norm(direction))[None], side=side)
    data = mujoco.MjData(model)
    for name, value in angles.items():
        data.joint(name).qpos = value[0]
    mujoco.mj_kinematics(model, data)
    elbow = data.body(f"{side}_lower_arm").xpos - data.body(f"{side}_upper_arm").xpos
    np.testing.assert_allclose(elbow / np.linalg.norm(elbow), direction / np.linalg.norm(direction), atol=1e-6)


@pytest.mark.parametrize("side", ["right", "left"])
def test_hips_and_abdomen_turn_the_humanoids_limbs_as_the_persons_are_turned(side, model, rng):
    import mujoco

    axes = rng.normal(size=(2, 3))
    hip, chest = (
        turn(axis / np.linalg.norm(axis), angle)[None] for axis, angle in zip(axes, (0.3, -0.25), strict=True)
    )
    data = mujoco.MjData(model)
    for name, angle in (hip_angles(hip, side=side) | abdomen_angles(chest)).items():
        data.joint(name).qpos[:] = angle[0]
    mujoco.mj_kinematics(model, data)
    # In the model's zero pose all these bodies are aligned with the torso.
    torso, pelvis, thigh = (data.body(name).xmat.reshape(3, 3) for name in ("torso", "pelvis", f"{side}_thigh"))
    resting = mujoco.MjData(model)
    mujoco.mj_kinematics(model, resting)
    start_torso, start_pelvis = (resting.body(name).xmat.reshape(3, 3) for name in ("torso", "pelvis"))
    np.testing.assert_allclose(pelvis.T @ thigh, rotations.matrix(hip[0]), atol=1e-6)
    turned = rotations.matrix(rotations.conjugate(chest[0]))
    np.testing.assert_allclose(torso.T @ pelvis, turned @ start_torso.T @ start_pelvis, atol=0.02)


def test_retargeting_keeps_the_limbs_directions_and_their_lengths_ratio(clip, motion, model):
    """Thighs and shins point the way the person's do, within 5°, so that hip to foot is as long as theirs by ratio."""
    person = joint_positions(clip)
    feet = end_positions(model, motion.qpos)[:, :2]
    import mujoco

    data, worst, lengths = mujoco.MjData(model), 0.0, []
    for index, row in enumerate(motion.qpos):
        data.qpos[:] = row
        mujoco.mj_kinematics(model, data)
        for side, foot in (("right", feet[index, 0]), ("left", feet[index, 1])):
            thigh, shin = data.body(f"{side}_thigh").xpos, data.body(f"{side}_shin").xpos
            hip, knee, ankle = (person[f"{side}_{joint}"][index] for joint in ("hip", "knee", "ankle"))
            for ours, theirs in ((shin - thigh, knee - hip), (foot - shin, ankle - knee)):
                cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
                worst = max(worst, np.degrees(np.arccos(min(cosine, 1.0))))
            lengths.append(np.linalg.norm(foot - thigh) / np.linalg.norm(ankle - hip))
    assert worst < 5
    np.testing.assert_allclose(lengths, LEG_LENGTH / clip.leg_length, rtol=0.02)
    assert motion.speed == pytest.approx(SPEED * LEG_LENGTH / clip.leg_length)


def test_retargeting_keeps_the_foot_that_stands_on_the_ground(clip, motion, model):
    soles = end_positions(model, motion.qpos)[:, :2, 2] - SOLE
    assert np.abs(np.min(soles, axis=1)).max() < 0.01, "the lower foot is within 1 cm of the ground"
    person = joint_positions(clip)
    ankles = np.stack([person["right_ankle"][:, 2], person["left_ankle"][:, 2]], axis=1)
    clear = np.abs(ankles[:, 0] - ankles[:, 1]) > 0.03
    assert clear.sum() > 10
    np.testing.assert_array_equal(np.argmin(soles, axis=1)[clear], np.argmin(ankles, axis=1)[clear])


def test_the_foot_that_stands_slides_hardly_more_than_the_persons(clip, motion, model):
    feet = end_positions(model, motion.qpos)[:, :2]
    person = joint_positions(clip)
    ankles = np.stack([person["right_ankle"], person["left_ankle"]], axis=1)
    slides = []
    for places in (feet, ankles):
        low = np.argmin(places[..., 2], axis=1)
        ahead = np.diff(places[..., 0], axis=0) * clip.fps
        same = low[1:] == low[:-1]
        slides.append(np.mean(ahead[np.arange(len(ahead)), low[:-1]][same]))
    assert abs(slides[0] - slides[1] * LEG_LENGTH / clip.leg_length) < 0.2, slides


def test_joints_stay_within_their_limits_and_what_was_cut_is_told(tmp_path, model):
    rows = [frame(i) for i in range(FRAMES + 1)]
    for row in rows:
        row[20] = 0.5  # a right knee that bends the wrong way
    motion = retarget(read_clip(write_walk(tmp_path / "odd.txt", Frames=rows)), model)
    layout = layout_of(model)
    assert np.all(motion.qpos[:, 7:] >= layout.low - 1e-9)
    assert np.all(motion.qpos[:, 7:] <= layout.high + 1e-9)
    assert motion.limited["right_knee"] == pytest.approx(0.5 + np.radians(2))


def test_velocities_are_those_of_the_positions_and_a_loop_goes_on(motion):
    hip = 7 + JOINTS.index("right_hip_y")
    phase = 2 * np.pi * np.arange(FRAMES + 1) / FRAMES
    rate = 2 * np.pi * FPS / FRAMES
    np.testing.assert_allclose(motion.qvel[:, hip - 1], -0.4 * rate * np.cos(phase), atol=0.03)
    qpos, _ = motion.at(np.array([0.25, 0.25 + motion.seconds]))
    np.testing.assert_allclose(qpos[1] - qpos[0], [motion.stride, *np.zeros(23)], atol=1e-9)


def test_the_state_comes_back_from_its_observation(motion, model, rng):
    qpos, qvel = motion.at(rng.uniform(0, 3, 20))
    leaning = rotations.multiply(qpos[:, 3:7], rotations.about(X, rng.uniform(-0.5, 0.5, 20)))
    qpos[:, 3:7] = rotations.multiply(rotations.about(Z, rng.uniform(-3, 3, 20)), leaning)
    qvel = rng.normal(size=qvel.shape)
    there, moving = state_of(observation(qpos, qvel, end_positions(model, qpos)))
    qpos[:, 3:7] *= np.sign(qpos[:, 3:4])
    np.testing.assert_allclose(there[:, 2:], qpos[:, 2:], atol=1e-9)
    np.testing.assert_allclose(moving, qvel, atol=1e-9)


def test_the_task_pays_one_at_the_target_speed_and_less_to_either_side():
    velocity = np.array([[1.0, 0.0], [0.7, 0.0], [1.3, 0.0], [1.0, 0.3]])
    paid = task_reward(velocity, target_speed=1.0)
    np.testing.assert_allclose(paid, [1, *np.full(3, np.exp(-4 * 0.09))])


def test_a_fall_is_a_low_torso_or_one_that_leans_by_more_than_sixty_degrees():
    qpos = np.zeros((4, 24))
    qpos[:, 2], qpos[:, 3] = 1.25, 1.0
    qpos[1, 2] = 0.85
    qpos[2, 3:7], qpos[3, 3:7] = turn(Y, np.radians(59)), turn(X, np.radians(61))
    np.testing.assert_array_equal(has_fallen(qpos), [False, True, False, True])


def test_warping_finds_the_cheapest_alignment():
    a, b = np.array([[0.0], [1.0], [1.0], [2.0]]), np.array([[0.0], [1.0], [2.0], [2.0]])
    assert dtw_distance(a, b) == 0
    # The diagonal costs twice |3 − 1|; 0 against 1 first, and then 3 against 1, only 1 + 2; by the lengths, 2 + 2.
    assert dtw_distance(np.array([[0.0], [3.0]]), np.array([[0.0], [1.0]])) == 0.75
    assert dtw_distance(np.array([[0.0], [1.0]]), np.array([[0.0], [0.0], [1.0]])) == 0
    assert dtw_distance(np.array([[0.0]]), np.array([[3.0], [4.0]])) == pytest.approx((2 * 3 + 4) / 3)


def test_the_clip_itself_has_no_distance_from_any_phase_and_a_still_body_has_much(motion):
    qpos, _ = motion.at(0.3 + np.arange(60) / 30)
    assert gait_distance(qpos[:, 7:], motion) < 0.02
    assert gait_distance(np.repeat(qpos[:1, 7:], 60, axis=0), motion) > 0.08
    gait = gait_of(qpos, motion, fell=False)
    assert gait.seconds == pytest.approx(59 / 30)
    assert gait.speed == pytest.approx(motion.speed, rel=0.02)


BAD = {
    "not json": ("Frames", "neither DeepMimic"),
    "no frames": (json.dumps({"Loop": "wrap"}), "neither DeepMimic"),
    "narrow": (json.dumps({"Frames": [[0.1, 0, 0, 0]] * 5}), "44 numbers"),
    "nan": (json.dumps({"Frames": [[float("nan")] * 44] * 5}), "not finite"),
    "no unit": (json.dumps({"Frames": [[0.1, i, 1, 0, *[2.0] * 40] for i in range(5)]}), "not unit quaternions"),
    "stands": (json.dumps({"Frames": [frame(0)] * 5}), "goes nowhere"),
}


@pytest.mark.parametrize(("text", "says"), BAD.values(), ids=BAD)
def test_a_bad_clip_is_refused_in_one_sentence(text, says, tmp_path):
    path = tmp_path / "clip.txt"
    path.write_text(text)
    with pytest.raises(RequestError, match=says):
        read_clip(path)


def test_an_amp_clip_is_read_from_its_bodies(tmp_path, clip):
    """The same walk, stored as world positions and rotations of bodies, is the same clip."""
    from menura.environments.motion.clips import _AMP_BODIES, PARENTS

    at, turned = joint_positions(clip), {"pelvis": clip.root_rotation}
    for name, parent in PARENTS.items():
        turned[name] = rotations.multiply(turned[parent], clip.joints[name])
    arrays = {
        "fps": np.array(60),
        "body_names": np.array(list(_AMP_BODIES.values())),
        "body_positions": np.stack([at[name] for name in _AMP_BODIES], axis=1).astype(np.float32),
        "body_rotations": np.stack([turned[name] for name in _AMP_BODIES], axis=1).astype(np.float32),
    }
    np.savez(tmp_path / "walk.npz", **arrays)
    read = read_clip(tmp_path / "walk.npz")
    assert (read.fps, read.loops) == (60, False)
    for name, q in clip.joints.items():
        np.testing.assert_allclose(np.abs(np.sum(read.joints[name] * q, axis=1)), 1, atol=1e-5)
    np.testing.assert_allclose(read.bones["left_knee"], clip.bones["left_knee"], atol=1e-5)
    np.savez(tmp_path / "short.npz", **{name: arrays[name] for name in ("fps", "body_names")})
    with pytest.raises(RequestError, match="no body_positions and no body_rotations"):
        read_clip(tmp_path / "short.npz")
