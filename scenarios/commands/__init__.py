"""The command line, a file each command or family: options in, a function of another room called, text out.

Nobody imports commands. They import what they need when they are called, so that ``colonnade --help`` is quick.
"""
