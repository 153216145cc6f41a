"""The training conversation: its roles round by round, and what they are made of.

roles.py is the conversation, read from top to bottom. Beside it: the split (samples.py), what guards refuse, gradients
under encryption and how they are opened, checkpoints, and what a training leaves. How messages travel is in transport/,
arithmetic on shares in sharing/, on ciphertexts in encryption/.
"""
