"""The admin console: a Streamlit app over the gateway's API, at /console/ of the one address."""
