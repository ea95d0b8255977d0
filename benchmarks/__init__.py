"""What Limen costs: load on real servers, and single steps in this process. Run as `python -m benchmarks`.

Not part of the product. One module each for the work (`fraud`, `loads`), the programs that do it (`servers`, `bare`), the
programs that ask for it (`generators`), the comparison (`compare`, `report`) and the steps in isolation (`micro`).
"""
