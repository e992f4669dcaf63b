"""Share a feeder: admit who fits, and raise those who have least, in whole milliwatts."""

MW_PER_KW = 1_000_000


def milliwatts(kw):
    """Return the nearest whole number: 0.1 kW is 100,000, whatever binary fractions make of it."""
    return round(kw * MW_PER_KW)


def share(minimum, maximum, capacity, buffer=0.0):
    low = [milliwatts(kw) for kw in minimum]
    high = [milliwatts(kw) for kw in maximum]
    usable = int(capacity * (1 - buffer) * MW_PER_KW + 0.001)

    admitted, left = [], usable
    for i, least in enumerate(low):
        if least <= left:
            admitted.append(i)
            left -= least

    def drawn(level):
        return sum(min(max(level, low[i]), high[i]) for i in admitted)

    # The highest level that fits, found by halving.
    level, above = 0, max(high, default=0) + 1
    while above - level > 1:
        middle = (level + above) // 2
        if drawn(middle) <= usable:
            level = middle
        else:
            above = middle

    power = [0.0] * len(minimum)
    for i in admitted:
        power[i] = min(max(level, low[i]), high[i]) / MW_PER_KW
    return power
