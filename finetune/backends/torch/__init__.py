"""Training on PyTorch: CUDA, Apple's GPU, Intel's, or any CPU.

The model's classes are transformers'; the base comes from the GGUF file that chat uses.
"""
