"""``python -m unet_studio`` is ``unet-studio``."""

from unet_studio.cli.app import main

if __name__ == "__main__":
    main()
