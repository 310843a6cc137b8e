"""AES-GCM over stored values, on any host. See SPEC.md, "Sealed values", for the bytes and SECURITY.md for its limits.

    keys = Keyring("2026-11", {"2026-11": secret})           # 32 random bytes, kept outside of the store
    host = SealedHost(FileHost(path), keys=keys, tenant="my-app")
    async with Runtime(host, workflows=[...]) as runtime: ...

Servers use the package ``cryptography`` (extra ``crypto``); a browser and a Worker pass
``cipher=alkaline_hosts.webcrypto.WebCrypto()``. Both write and read one format.
"""

from .bundles import open_bundle, seal_bundle
from .ciphers import Cipher, CryptographyCipher, Derivation, Job
from .host import SealedHost
from .keyring import Keyring
from .sweeping import Swept, reseal, seal_store

__all__ = [
    "SealedHost", "Keyring", "reseal", "seal_store", "Swept", "seal_bundle", "open_bundle",
    "Cipher", "CryptographyCipher", "Derivation", "Job",
]  # fmt: skip
