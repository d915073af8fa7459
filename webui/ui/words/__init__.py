"""Every sentence of the pages, in both languages: one module a tab, and one for what they share."""
