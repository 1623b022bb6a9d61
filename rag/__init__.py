"""Retrieval over a university's web site: crawl, extract, chunk, index, retrieve, cite. Built on engine.client."""
