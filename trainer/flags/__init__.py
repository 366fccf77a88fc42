"""What a flag may say; nothing heavy is imported."""
