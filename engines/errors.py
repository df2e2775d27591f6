"""The exception tree. Every error carries a ``hint``: the repair, in one sentence.

    PersonacamError
    |-- SettingsError            an option, profile or argument that makes no sense
    |-- MissingDependencyError   an optional package or system library is not installed
    |-- SourceError              the input
    |   |-- SourceNotFoundError      no such file, folder, camera or address
    |   |-- SourceBusyError          another program holds the camera
    |   |-- SourceFormatError        a file that is no video, a camera that gives no picture
    |   `-- SourceLostError          it stopped while running
    |-- SinkError                the output
    |   `-- SinkUnavailableError     no virtual camera device, no display, no encoder
    |-- DetectorError            a detection network failed or gave nonsense
    |-- RuntimeFailure           an inference runtime could not be opened, or failed while running
    |   `-- DeviceError              the graphics card: lost, out of memory, a driver error, or none there
    |-- PersonaError             a persona file
    |   |-- PersonaNotFoundError
    |   `-- PersonaFormatError       damaged, tampered with, too large, or not a persona
    |       |-- ManifestTamperedError    the manifest is not the one that was signed
    |       `-- WeightsTamperedError     a network is not the one that the manifest names
    |-- ConsentError             no valid consent record for a real person
    |   |-- ConsentMissingError      there is none
    |   |-- RecordTamperedError      damaged, or changed after it was signed
    |   |-- ConsentKeyError          signed with another key than it should be
    |   |-- ConsentNotYetValidError  it begins later
    |   |-- ConsentExpiredError      it is over
    |   |-- ConsentClockError        this computer's clock was set back
    |   |-- ConsentRevokedError      the person took it back
    |   |-- RevocationUnknownError   whether the person took it back could not be found out
    |   |-- ConsentScopeError        it does not cover this purpose or this country
    |   `-- ConsentFootageError      it was given for other footage
    |-- EnrollmentError          footage from which no persona can be made
    |   |-- NoFaceError              it shows no face that could be used
    |   `-- OtherPersonError         it shows more than one person
    |-- AuditError               the log of what was done with personas of real people
    |-- DataError                a data set or checkpoint is damaged or foreign
    |-- ExportError              the exported graph does not agree with the network
    |-- BuildError               a TensorRT plan could not be built
    |   `-- PlanRefusedError           it was built and is not what was asked for: precision, numbers
    |-- CacheError               the folder of built plans cannot be written
    |-- RenderError              the renderer of invented people
    `-- TrainingError            training cannot start, or diverged

Only the command line catches the whole tree; everyone else catches the leaf that they can repair.
"""

from __future__ import annotations

from typing import Any, Literal

DeviceFault = Literal["lost", "out_of_memory", "driver", "missing"]
RuntimeFault = Literal["failed", "bad_output"] | DeviceFault


class PersonacamError(Exception):
    """Root of the tree.

    ``message`` says what happened; ``hint`` says what to do about it and is never empty.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are pickled as their positional arguments, and the hint is none: worker processes could not say it.
        return _restored, (type(self), self.__dict__)


def _restored(kind: type[PersonacamError], state: dict[str, Any]) -> PersonacamError:
    error = kind.__new__(kind, state["message"])
    error.__dict__.update(state)
    return error


class SettingsError(PersonacamError):
    """An option, profile or argument that makes no sense."""


class MissingDependencyError(PersonacamError):
    """An optional package or a system library is not installed."""


class SourceError(PersonacamError):
    """The input failed."""


class SourceNotFoundError(SourceError):
    """No such file, folder, camera or address."""


class SourceBusyError(SourceError):
    """Another program holds the camera."""


class SourceFormatError(SourceError):
    """A file that is no video, or a camera that gives no picture."""


class SourceLostError(SourceError):
    """The input stopped while running."""


class SinkError(PersonacamError):
    """The output failed."""


class SinkUnavailableError(SinkError):
    """No virtual camera device, no display, or no encoder."""


class DetectorError(PersonacamError):
    """A detection network failed or returned values that cannot be a face."""


class RuntimeFailure(PersonacamError):  # noqa: N818 - "RuntimeError" is taken, and means something else
    """An inference runtime could not be opened, or failed while running.

    ``kind`` is ``bad_output`` when it ran and gave numbers that cannot be used (NaN, infinities).
    """

    kind: RuntimeFault

    def __init__(self, message: str, *, hint: str, kind: RuntimeFault = "failed") -> None:
        super().__init__(message, hint=hint)
        self.kind = kind


class DeviceError(RuntimeFailure):
    """The graphics card or its driver.

    ``kind`` is ``lost`` when nothing of this process can run there any more, ``out_of_memory`` when the card's or the
    pinned memory is used up, ``missing`` when there is no card or no driver, and ``driver`` for everything else.
    """

    def __init__(self, message: str, *, hint: str, kind: DeviceFault = "driver") -> None:
        super().__init__(message, hint=hint, kind=kind)


class PersonaError(PersonacamError):
    """Something is wrong with a persona."""


class PersonaNotFoundError(PersonaError):
    """No persona of that name or at that path."""


class PersonaFormatError(PersonaError):
    """Damaged, tampered with, too large, or not a persona file."""


class ManifestTamperedError(PersonaFormatError):
    """The manifest of a persona or of a face set is not the one that was signed or logged."""


class WeightsTamperedError(PersonaFormatError):
    """A network is not the one that its manifest names."""


class ConsentError(PersonacamError):
    """No valid consent record for the real person that a persona shows."""


class ConsentMissingError(ConsentError):
    """There is no consent record."""


class RecordTamperedError(ConsentError):
    """A consent record that is damaged, or was changed after it was signed."""


class ConsentKeyError(ConsentError):
    """Signed with another key than the record names, or than the persona was made with."""


class ConsentNotYetValidError(ConsentError):
    """The consent begins later."""


class ConsentExpiredError(ConsentError):
    """The consent is over."""


class ConsentClockError(ConsentError):
    """The clock of this computer shows an earlier time than it did before."""


class ConsentRevokedError(ConsentError):
    """The person took the consent back."""


class RevocationUnknownError(ConsentError):
    """Whether the person took the consent back could not be found out."""


class ConsentScopeError(ConsentError):
    """The consent does not cover what is wanted: another purpose, another country."""


class ConsentFootageError(ConsentError):
    """The consent was given for other footage."""


class EnrollmentError(PersonacamError):
    """Footage from which no persona can be made."""


class NoFaceError(EnrollmentError):
    """The footage shows no face that could be used."""


class OtherPersonError(EnrollmentError):
    """The footage shows more than one person."""


class AuditError(PersonacamError):
    """The log of what was done with personas of real people cannot be written, or is not what was written."""


class DataError(PersonacamError):
    """A data set or a checkpoint is damaged, truncated or foreign."""


class ExportError(PersonacamError):
    """The exported graph does not agree with the network it came from."""


class BuildError(PersonacamError):
    """A TensorRT plan could not be built."""


class PlanRefusedError(BuildError):
    """A plan was built without complaint, and its precision or its numbers are not what was asked for."""


class CacheError(PersonacamError):
    """The folder of built plans cannot be written: disk full, or no rights. It stays usable as it is."""


class RenderError(PersonacamError):
    """The renderer of invented people could not do its work."""


class TrainingError(PersonacamError):
    """Training cannot start, or it diverged."""
