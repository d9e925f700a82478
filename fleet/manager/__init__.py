"""Change: plan and render are pure; apply, roll and scale act."""
