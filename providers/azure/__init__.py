"""Archives in Azure Blob Storage, with a shared access signature (SAS).

Built on the Azure SDK; nothing outside this package imports it.
"""

from providers.azure.options import AzureBlob

__all__ = ["AzureBlob"]
