"""Archives in AWS S3, and in stores that speak its protocol (option `aws.endpoint.url`).

Built on boto3; nothing outside this package imports it.
"""

from providers.aws.options import S3

__all__ = ["S3"]
