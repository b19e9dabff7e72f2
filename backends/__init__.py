"""The backends and simulators: name -> loader, so that none is imported before it is asked for."""

if __name__ != "snnc.backends":
    raise ImportError("this folder is the package snnc.backends; import it by that name")
