"""The passes: one file each, none of which knows another; only the table below knows them all."""

if __name__ != "snnc.passes":
    raise ImportError("this folder is the package snnc.passes; import it by that name")
