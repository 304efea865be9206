"""The two interfaces of MPRIS on the bus: names, signatures, and who may read or write what.

Owns what D-Bus sees. What a property's value is, and what a method does, is :mod:`musicsyncd.system.mpris.player`'s;
what the host refuses becomes an error of D-Bus with the host's own line. The methods have the specification's names.

Annotations are signatures here, and dbus-fast reads them: they must be what they are, and not texts as elsewhere.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from dbus_fast import DBusError, PropertyAccess, Variant
from dbus_fast.annotations import DBusBool, DBusDict, DBusDouble, DBusInt64, DBusObjectPath, DBusSignature, DBusStr
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property, dbus_signal

from musicsyncd.errors import MusicSyncError
from musicsyncd.system.mpris.player import Change, Player

PATH = "/org/mpris/MediaPlayer2"

_FAILED = "org.freedesktop.DBus.Error.Failed"
_NOT_SUPPORTED = "org.freedesktop.DBus.Error.NotSupported"

_Write = Callable[[Player, Any], Awaitable[None]]
_Texts = Annotated[list[str], DBusSignature("as")]

_KINDS = {
    "mpris:trackid": "o",
    "mpris:length": "x",
    "mpris:artUrl": "s",
    "xesam:title": "s",
    "xesam:artist": "as",
    "xesam:album": "s",
    "xesam:trackNumber": "i",
}


async def _try(asked: Awaitable[None]) -> None:
    try:
        await asked
    except MusicSyncError as error:
        raise DBusError(_FAILED, str(error)) from None


def _property(name: str, kind: object, read: Callable[[Any], object], write: _Write | None = None) -> Any:  # noqa: ANN401
    """Return a property of an interface, as ``dbus_property`` makes one of a method."""

    def get(interface: Any) -> object:  # noqa: ANN401 - whichever has it
        return read(interface)

    # dbus-fast finds a property's value by its getter's name, and its signature by what that returns.
    get.__name__, get.__annotations__ = name, {"return": kind}
    if write is None:
        return dbus_property(PropertyAccess.READ)(get)

    async def put(interface: Any, value: Any) -> None:  # noqa: ANN401 - of its kind
        await _try(write(interface.player, value))

    return dbus_property()(get).setter(put)


def _fixed(name: str, kind: object, value: object, write: _Write | None = None) -> Any:  # noqa: ANN401 - dbus-fast's
    return _property(name, kind, lambda _interface: value, write)


def _shown(name: str, kind: object, write: _Write | None = None) -> Any:  # noqa: ANN401 - dbus-fast's
    return _property(name, kind, lambda interface: _on_bus(name, interface.player.properties[name]), write)


class Root(ServiceInterface):
    """``org.mpris.MediaPlayer2``: a player without a window, which plays what its host has.

    Args:
        identity: what people call it.
    """

    def __init__(self, identity: str) -> None:
        super().__init__("org.mpris.MediaPlayer2")
        self.identity = identity

    @dbus_method()
    def Raise(self) -> None:
        """There is nothing to raise, as CanRaise says."""

    @dbus_method()
    def Quit(self) -> None:
        """Not to be ended from here, as CanQuit says."""

    CanQuit = _fixed("CanQuit", DBusBool, False)
    CanRaise = _fixed("CanRaise", DBusBool, False)
    HasTrackList = _fixed("HasTrackList", DBusBool, False)
    Identity = _property("Identity", DBusStr, lambda interface: interface.identity)
    SupportedUriSchemes = _fixed("SupportedUriSchemes", _Texts, [])
    SupportedMimeTypes = _fixed("SupportedMimeTypes", _Texts, [])


class PlayerInterface(ServiceInterface):
    """``org.mpris.MediaPlayer2.Player``.

    Args:
        player: knows and does all.
    """

    def __init__(self, player: Player) -> None:
        super().__init__("org.mpris.MediaPlayer2.Player")
        self.player = player

    def tell(self, change: Change) -> None:
        """Signal what has changed, and nothing where nothing has."""
        if change.properties:
            self.emit_properties_changed({name: _on_bus(name, value) for name, value in change.properties.items()})
        if change.seeked_us is not None:
            self.Seeked(change.seeked_us)

    # -- methods -------------------------------------------------------------------------------

    @dbus_method()
    async def Next(self) -> None:
        """As the player."""
        await _try(self.player.next())

    @dbus_method()
    async def Previous(self) -> None:
        """As the player."""
        await _try(self.player.previous())

    @dbus_method()
    async def Pause(self) -> None:
        """As the player."""
        await _try(self.player.pause())

    @dbus_method()
    async def PlayPause(self) -> None:
        """As the player."""
        await _try(self.player.play_pause())

    @dbus_method()
    async def Stop(self) -> None:
        """As the player."""
        await _try(self.player.stop())

    @dbus_method()
    async def Play(self) -> None:
        """As the player."""
        await _try(self.player.play())

    @dbus_method()
    async def Seek(self, Offset: DBusInt64) -> None:
        """Microseconds from where it is."""
        await _try(self.player.seek(Offset))

    @dbus_method()
    async def SetPosition(self, TrackId: DBusObjectPath, Position: DBusInt64) -> None:
        """Microseconds from the start of that track, and no other."""
        await _try(self.player.set_position(TrackId, Position))

    @dbus_method()
    def OpenUri(self, Uri: DBusStr) -> None:
        """Not to be had, as SupportedUriSchemes says: a client's files are not the host's."""
        raise DBusError(_NOT_SUPPORTED, "only what the host has can be played: use `musicsyncd play`")

    @dbus_signal()
    def Seeked(self, Position: DBusInt64) -> DBusInt64:
        """Somebody went elsewhere in the track, microseconds."""
        return Position

    # -- properties ----------------------------------------------------------------------------

    PlaybackStatus = _shown("PlaybackStatus", DBusStr)
    LoopStatus = _shown("LoopStatus", DBusStr, Player.set_loop)
    Rate = _fixed("Rate", DBusDouble, 1.0, Player.set_rate)
    MinimumRate = _fixed("MinimumRate", DBusDouble, 1.0)
    MaximumRate = _fixed("MaximumRate", DBusDouble, 1.0)
    Shuffle = _shown("Shuffle", DBusBool, Player.set_shuffle)
    Metadata = _shown("Metadata", DBusDict)
    Volume = _shown("Volume", DBusDouble, Player.set_volume)
    Position = _property("Position", DBusInt64, lambda interface: interface.player.position_us())
    CanGoNext = _shown("CanGoNext", DBusBool)
    CanGoPrevious = _shown("CanGoPrevious", DBusBool)
    CanPlay = _shown("CanPlay", DBusBool)
    CanPause = _shown("CanPause", DBusBool)
    CanSeek = _shown("CanSeek", DBusBool)
    CanControl = _fixed("CanControl", DBusBool, True)

    # It runs on by itself, which is no news: clients must not keep it.
    Position.introspection.annotations["org.freedesktop.DBus.Property.EmitsChangedSignal"] = "false"


def _on_bus(name: str, value: Any) -> object:  # noqa: ANN401 - of whatever kind the property is
    if name == "Metadata":
        return {key: Variant(_KINDS[key], one) for key, one in value.items()}
    return value
