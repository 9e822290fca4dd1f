"""`hqclip gc`: what nothing in force refers to, and how it is deleted so that no run misses anything."""
