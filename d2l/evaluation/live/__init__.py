"""Live check: is an adapter really in effect at an endpoint, in its strength, with its template?"""
