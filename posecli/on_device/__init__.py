"""What is done on a CUDA device besides the network: pictures sent there early and cropped there, launches replayed,
memory measured.

Each part does the same on a CPU, where tests compare it with the plain way; there `infer` does not use them.
"""
