"""What a run writes for people and programs: records, curves, the screen."""
