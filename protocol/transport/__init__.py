"""How messages travel: the roster, bytes, seals, a party's channel, and what carries envelopes: in process or gRPC.

It knows names, kinds and sizes of messages, and nothing of what they are for.
"""
