"""An inference server of known capacity that speaks OpenAI's API and vLLM's metrics: the truth that measurements are checked against."""
