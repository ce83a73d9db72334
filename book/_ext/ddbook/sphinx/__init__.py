"""The Sphinx extension: pages that are runs, figures, the ledger, MathJax."""
