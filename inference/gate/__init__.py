"""The publish gate: what is asked of a model before anybody may call it, and the report that says how it fared.

`examine` starts sandboxed processes that read and run the model; nothing of a stranger's model is
parsed or run in the process that calls it.
"""
