"""Subjects for anybody's images: λ-ECLIPSE's annotation models and filters (arXiv 2402.05195, appendix)."""
