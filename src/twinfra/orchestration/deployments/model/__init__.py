"""What a deployment is made of and how it moves: states, records, intents, choices; pure.

No clock, no ids, no I/O: those come as arguments. ``service`` acts on these values, ``store`` keeps
them, ``views`` spells them as the INDIGO API does.
"""
