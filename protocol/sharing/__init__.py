"""Secret shares modulo 2^64: streams of randomness, the dealer's products, the series, the evaluator of both sides.

Nothing here is encrypted; what is opened is a value minus a mask that is used once.
"""
