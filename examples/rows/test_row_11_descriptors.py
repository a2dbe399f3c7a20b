import os
from pathlib import Path


def test_file_for_each_order(tmp_path):
    for number in range(5):
        os.write(os.open(tmp_path / f"{number}.txt", os.O_CREAT | os.O_WRONLY), b"shipped")


def test_file_for_each_order_mended(tmp_path):
    for number in range(5):
        Path(tmp_path / f"{number}.txt").write_bytes(b"shipped")
