"""The students' chatbot: a Gradio app on the engine's REST API and on rag's index."""
