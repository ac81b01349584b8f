"""What a program is: the three levels of the IR, their arithmetic and their text form.

`LayerGraph` (the analog network) -> `Network` (the spiking network) ->
`Partitioned | Placed | Routed` (the mapping). All are frozen values. This package
imports numpy and the standard library, and nothing else of `nmc`.
"""
