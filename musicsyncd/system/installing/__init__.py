"""Sets the services up on a machine, takes them away again and upgrades them.

In the order of use: :mod:`.way` finds out how this program was installed, :mod:`.place` knows where on this
machine things go and runs commands, :mod:`.access` whether the service's user gets at files, :mod:`.units` the texts of
units, :mod:`.config_file` a person's configuration file, :mod:`.record` what was made, :mod:`.steps` each thing to do,
:mod:`.plan` what is to be done for a host or a speaker, :mod:`.removing` and :mod:`.upgrading` the ways back and on.

All of it looks at the system and at no flag for what is to be done, so that a second run finds nothing to do, and one
over a broken-off run does the rest. What is made is written down before it is made.
"""
