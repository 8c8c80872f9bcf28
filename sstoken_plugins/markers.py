"""The marks by which pluggy knows the hooks and whoever implements them."""

from pluggy import HookimplMarker, HookspecMarker

hookspec = HookspecMarker("sstoken")
hookimpl = HookimplMarker("sstoken")
