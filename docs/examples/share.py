"""Share a feeder: admit who fits, give each its minimum, and the rest in equal parts."""


def share(minimum, maximum, capacity, buffer=0.0):
    left = capacity * (1 - buffer)
    power = [0.0] * len(minimum)
    rising = []
    for i, low in enumerate(minimum):
        if low <= left:
            power[i] = low
            left -= low
            rising.append(i)

    # What somebody cannot take goes round again.
    while rising and left > 1e-9:
        part = left / len(rising)
        for i in rising:
            more = min(part, maximum[i] - power[i])
            power[i] += more
            left -= more
        rising = [i for i in rising if power[i] < maximum[i]]
    return power
