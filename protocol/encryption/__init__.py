"""Paillier: keys, vectors of ciphertexts, packing, masks, and the arithmetic below, in gmpy2 or the native kernel.

The only room that touches phe and gmpy2. It knows nothing of messages, parties or the network.
"""
