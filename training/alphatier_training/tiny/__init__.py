"""What only the tiny family needs: its problems, its base trained from nothing, a Llama that is fast on a CPU.

Nothing but `builtin` imports it, so that a run of another kind of model never loads it.
"""
