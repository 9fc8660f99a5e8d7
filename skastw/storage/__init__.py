"""Files: written in one step, read within limits, and exchanged with the Hugging Face Hub."""
