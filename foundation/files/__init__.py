"""Files as dyno keeps them: written whole, locked, hashed, and temporary folders that die with their owner."""
