"""The files of one apply: what is to be written, what lay there before, and the way back."""

from __future__ import annotations

from pathlib import Path

from fleet.manager import daemon, files
from fleet.manager.desired import Desired
from fleet.manager.files import Folder
from fleet.manager.places import Place


class Written:
    """
    What *desired* changes in *folder*, from the moment when this was made.

    write    names of the files that differ
    remove   names of the files that are not asked for any more
    on_disk  name and text of our files as they were before
    access   who could read them then
    """

    def __init__(self, place: Place, desired: Desired, folder: Folder) -> None:
        self.place, self.desired, self.folder = place, desired, folder
        self.on_disk = folder.ours(desired.project)
        self.access = {name: folder.access(name) for name in self.on_disk}
        self.write, self.remove = files.changes(desired.files, self.on_disk)
        self._main_before: str | None = None

    def check(self) -> None:
        """
        Make the log folders, and see that each file may be written.

        Raises:
            Refused: something that is not ours is in the way.
        """
        for name in self.write:
            self.folder.check_may_write(name, self.desired.project)
        for path in self.desired.log_dirs:
            files.make_log_dir(path)

    def overlay(self) -> dict[Path, str | None]:
        """What supervisord is to find, by path, where it is not on disk yet; None for a file that goes."""
        conf_dir = self.place.conf_dir
        found: dict[Path, str | None] = {conf_dir / name: self.desired.files[name] for name in self.write}
        found |= {conf_dir / name: None for name in self.remove}
        if self.desired.main_conf is not None:
            found[self.place.main_conf] = self.desired.main_conf
        return found

    def write_main_conf(self) -> None:
        if self.place.home is not None and self.desired.main_conf is not None:
            self._main_before = daemon.write_main_conf(self.place.home, self.desired.main_conf)

    def write_new(self) -> None:
        """A removed spec stays: its workers may be started once more before they are told to stop."""
        away = [name for name in self.remove if name.endswith(".conf")]
        files.write_all(self.folder, self.desired.files, self.desired.access, self.write, away)

    def remove_specs(self) -> None:
        files.write_all(self.folder, {}, {}, (), [n for n in self.remove if not n.endswith(".conf")])

    def write_back(self) -> None:
        """Everything as it was."""
        back = [name for name in (*self.write, *self.remove) if name in self.on_disk]
        away = [name for name in self.write if name not in self.on_disk]
        files.write_all(
            self.folder, self.on_disk, self.access, sorted(back, key=lambda n: n.endswith(".conf")), away
        )
        if self._main_before is not None and self.place.home is not None:
            daemon.write_main_conf(self.place.home, self._main_before)

    def in_words(self) -> list[str]:
        """What of it is done by now, as the folder shows."""
        now = self.folder.ours(self.desired.project)
        wrote = [name for name in self.write if now.get(name) == self.desired.files[name]]
        removed = [name for name in self.remove if name not in now]
        return [
            f"{what} {', '.join(names)}" for what, names in (("wrote", wrote), ("removed", removed)) if names
        ]
