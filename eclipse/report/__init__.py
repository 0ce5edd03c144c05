"""The sweep as one self-contained page: table, curves, pictures, failures, settings and lineage."""
