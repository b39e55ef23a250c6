"""Walking after motion capture: clips of people, retargeted to a MuJoCo humanoid, and an environment to walk in."""
