"""From a kept body, HTML or PDF, to a page of headings, texts, lists, tables and contact cards."""
