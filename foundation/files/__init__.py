"""Files as dyno keeps them: written atomically, locked, hashed; and swept temporary folders."""
