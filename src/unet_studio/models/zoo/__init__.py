"""The BioImage Model Zoo: its packages in, and our models out as such packages.

Format: https://github.com/bioimage-io/spec-bioimage-io, versions 0.4 and 0.5.
"""
