"""Facts that a framework's `examine` gathers: will this environment, this configuration and these data work?"""
