"""What every layer does with files: write them whole, open them safely, check them, lock their folders.

Imports nothing of this project, and neither torch nor Pillow before a function needs it.
"""

PROGRAM = "text-to-image-benchmark"  # how files and folders of ours name their maker
