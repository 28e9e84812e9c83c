"""Archives in AWS S3, and in stores that speak its protocol (option `aws.endpoint.url`).

Built on botocore, the part of boto3 that speaks the protocol; nothing outside this package imports it.
"""

from providers.aws.options import S3

__all__ = ["S3"]
