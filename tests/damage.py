"Bytes that a disk or a download has spoiled."


def damaged(data:bytes, rng, most=5, longest=200) -> bytes:
    "Fewer than `most` bytes flipped, or the end cut off, or fewer than `longest` bytes there twice."
    how, at = rng.integers(3), int(rng.integers(len(data)))
    if how == 0:
        out = bytearray(data)
        for i in rng.integers(len(data), size=int(rng.integers(1, most))): out[i] ^= 1 << int(rng.integers(8))
        return bytes(out)
    return data[:at] if how == 1 else data[:at] + data[max(0, at - int(rng.integers(1, longest))):]
