"""The host as a player on a person's desktop: media keys and applets, by MPRIS on the session's D-Bus.

A process of its own and a client of the host like every command: neither host nor speaker is on a desktop's bus.
:mod:`player` makes of what the host says what the specification has; :mod:`interfaces` puts that on the bus with
dbus-fast; :mod:`daemon` follows the host and keeps the name on the bus for as long as it answers.

Source: MPRIS D-Bus Interface Specification 2.2, https://specifications.freedesktop.org/mpris-spec/2.2/
"""
