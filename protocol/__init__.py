"""What the parties say to each other: messages, encryption, masks, training, scoring, transports."""
