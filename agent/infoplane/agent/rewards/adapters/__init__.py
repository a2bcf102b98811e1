"""Adapters: what alignment libraries know, told to a monitor; one module a library, none of which is imported here.

No module imports its library: objects are recognised by the names of their classes and fields, so an adapter costs
nothing where the library is missing. What a library renames is logged once and no longer observed; training goes on.
"""
