"""The applications on the engine: the admin console and the student chatbot. Nothing imports from here."""
